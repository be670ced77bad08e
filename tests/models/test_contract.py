"""The contract of ``models/base.py``, checked on every model that the registry knows, by the tests that ship with recbench.

A new model is tested as soon as it is registered; ``tests/fixtures/model_sizes.py`` only makes the large ones small.
"""

from recbench.models.registry import lookup, model_names
from recbench.models.testing import contract_tests
from tests.fixtures.model_sizes import EPOCHS, IMPERSONAL, SIZES, TRAINING_KEYS, USUAL_EPOCHS

for _name in (name for name in model_names() if lookup(name).model.ranks):
    globals().update(
        contract_tests(
            _name,
            keys=SIZES.get(_name, {}),
            training_keys=TRAINING_KEYS.get(_name, {}),
            epochs=EPOCHS.get(_name, USUAL_EPOCHS),
            beats_popularity=_name not in IMPERSONAL,
        )
    )
