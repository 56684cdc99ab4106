"""Any scan of any kind -> one :class:`~pipeline.volumes.volume.Volume`; no other room opens one."""
