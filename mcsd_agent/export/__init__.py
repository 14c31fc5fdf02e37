"""From a policy in torch to the members of its artifact: the step as ONNX, the weights, and the check of both."""
