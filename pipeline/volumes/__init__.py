"""Any scan of any kind -> one :class:`~pipeline.volumes.volume.Volume`; only this room opens scans."""
