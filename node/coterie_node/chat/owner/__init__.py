"""The half of chat that owns slots: accounts, mailboxes, archives, deliveries, attached sessions and receipts."""
