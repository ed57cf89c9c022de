"""The experiment: data, training and measurement of the embedded network."""
