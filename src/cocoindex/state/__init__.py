"""State stores: the contract (:mod:`.base`), the embedded one, and one in memory."""
