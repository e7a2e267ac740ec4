"""From a minimal ``input.yaml`` to the full configuration, with the origin of every value."""

from aiida_mlip_autopipe.config.errors import ConfigError
from aiida_mlip_autopipe.config.expander import ConfigExpander, Expansion, check_surrogate_elements
from aiida_mlip_autopipe.config.schema import Configuration

__all__ = ['ConfigError', 'ConfigExpander', 'Configuration', 'Expansion', 'check_surrogate_elements']
