"""The three sets of layers that `tf_seresnet.network` can be built from: core, slim and keras_layers."""
