"""Recording a training step of this half, and computing it again beside the record in float64, with NumPy alone."""
