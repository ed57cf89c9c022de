"""What pages say of the committed tables: one function without arguments for each block."""

from .claims import (
    accuracy_block,
    claims_block,
    findings_block,
    revision_block,
    verdicts_block,
)
from .compression import (
    aims_block,
    allocation_block,
    distortion_block,
    frontier_block,
    retraining_block,
    runtimes_block,
    standard_block,
)
from .records import columns_block, commits_block, table_block
from .speed import bench_block, rows_block, targets_block

__all__ = ["BLOCKS", "table_block"]

BLOCKS = {
    "columns": columns_block,
    "commits": commits_block,
    "findings": findings_block,
    "verdicts": verdicts_block,
    "claims": claims_block,
    "accuracy": accuracy_block,
    "revision": revision_block,
    "frontier": frontier_block,
    "aims": aims_block,
    "standard": standard_block,
    "retraining": retraining_block,
    "distortion": distortion_block,
    "allocation": allocation_block,
    "runtimes": runtimes_block,
    "bench": bench_block,
    "rows": rows_block,
    "targets": targets_block,
}
