"""The quick steps of the pipeline as calcfunctions, by stage."""
