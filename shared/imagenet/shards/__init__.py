"""ImageNet in tar files of one sample after another, as webdataset reads them."""
