"""Which labels are in doubt: ranked, with the reason; nothing is changed."""
