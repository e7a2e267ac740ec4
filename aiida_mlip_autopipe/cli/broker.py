"""The broker that ``init`` sets up, and what it overlooks."""

from __future__ import annotations

import time

__all__ = ['ATTENTION_INTERVAL_S', 'call_attention']

ATTENTION_INTERVAL_S = 60.0
CONNECTION_S = 0.2


def call_attention() -> None:
    """Have the ZeroMQ broker of the loaded profile look for daemon workers that died.

    It looks when a connection ends, and hands the processes of whoever is gone to the other workers. A worker that is
    killed (by the kernel, where memory ran out) may not count as gone yet at that moment: its processes then stand
    still until another connection ends, so one is made and ended. RabbitMQ needs no such help.
    """
    from aiida.brokers.zeromq.broker import ZeromqBroker
    from aiida.manage import get_manager

    profile = get_manager().get_profile()
    if profile is None or profile.process_control_backend != 'core.zeromq':
        return
    with ZeromqBroker(profile) as broker:
        if broker.check_service_reachable():
            broker.get_communicator()
            time.sleep(CONNECTION_S)
