"""The rules by which frames are selected, one file each; ``base.py`` says how one is written."""
