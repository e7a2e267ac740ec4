"""A labelling code and a way to make seeds, for aiida-mlip-autopipe: an example of how it is extended."""
