"""Weights as matrices and their inputs, against what torch's layers compute."""

import pytest
import torch
from torch import nn

from lib.compression.calls import Uses, weights_of
from lib.compression.layout import from_matrix, inputs_of, to_matrix

LAYERS = [
    (nn.Linear(5, 4), (3, 7, 5)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    (nn.Conv2d(4, 6, (3, 2), dilation=2, padding="same"), (2, 4, 7, 6)),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 7, 6)),
    (nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect", groups=2), (2, 4, 7, 6)),
    (nn.Conv2d(6, 6, 3, groups=6, stride=(2, 1)), (2, 6, 7, 6)),
    (nn.Conv3d(2, 3, 2, padding=1), (2, 2, 4, 3, 5)),
    (nn.ConvTranspose1d(4, 3, 4, stride=3, padding=1, output_padding=2), (2, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=(1, 2), padding=3), (2, 4, 5, 6)),
    (nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 3, 2, 3)),
]


def the_call(layer, inputs):
    """The one call of a layer's forward pass, and its outputs."""
    calls = []

    def answer(call):
        calls.append(call)
        return call.output()

    with torch.no_grad(), Uses(weights_of(layer), answer):
        outputs = layer(inputs)
    [call] = calls
    return call, outputs


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_rows_times_inputs_are_the_outputs(layer, shape):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    call, outputs = the_call(layer, inputs)
    matrix = to_matrix(layer.weight.detach(), call)
    columns = inputs_of(call, 1 << 20, torch.Generator())
    made = (matrix @ columns.transpose(1, 2)).flatten(0, 1) + layer.bias.detach()[:, None]
    torch.testing.assert_close(made, call.by_channel(outputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: type(value).__name__)
def test_a_matrix_becomes_its_weight_again(layer, shape):
    call, _ = the_call(layer, torch.zeros(shape))
    labels = torch.arange(layer.weight.numel()).view(layer.weight.shape)
    assert torch.equal(from_matrix(to_matrix(labels, call), labels.shape, call), labels)


def test_inputs_are_drawn_from_those_that_there_are():
    call, _ = the_call(nn.Linear(3, 2), torch.arange(60.0).view(20, 3))
    drawn = inputs_of(call, 7, torch.Generator().manual_seed(0))
    again = inputs_of(call, 7, torch.Generator().manual_seed(0))
    assert drawn.shape == (1, 7, 3)
    assert torch.equal(drawn, again)
    assert set(drawn[0, :, 0].tolist()) <= set(range(0, 60, 3))


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
def test_attention_computes_the_same_when_its_projections_are_seen(separate, crossed):
    torch.manual_seed(0)
    dims = {"kdim": 6, "vdim": 5} if separate else {}
    attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True, **dims).eval()
    query = torch.randn(2, 3, 8)
    key = torch.randn(2, 4, dims.get("kdim", 8)) if crossed or separate else query
    value = torch.randn(2, 4, dims.get("vdim", 8)) if crossed or separate else query
    seen = []

    def answer(call):
        seen.append(call.name)
        return call.output()

    with torch.no_grad():
        expected = attention(query, key, value)
        with Uses(weights_of(attention), answer):
            found = attention(query, key, value)
    torch.testing.assert_close(found, expected)
    inside = ["q_proj_weight", "k_proj_weight", "v_proj_weight"] if separate else ["in_proj_weight"]
    assert seen == [*inside, "out_proj.weight"]
