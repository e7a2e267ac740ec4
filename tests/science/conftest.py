"""What is collected: the batched engine needs torch-sim, which needs Python 3.12."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec('torch_sim') else ['test_torchsim*.py']
