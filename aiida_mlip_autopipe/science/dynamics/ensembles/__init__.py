"""The ensembles that molecular dynamics samples, one file each; ``base.py`` says how one is written."""
