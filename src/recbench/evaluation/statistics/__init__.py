"""How sure a comparison of finished runs is, from their stored ranks: users drawn anew, seeds, families of tests."""
