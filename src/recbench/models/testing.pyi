from recbench.experiment.model_contract.contract import ModelContract as ModelContract
from recbench.experiment.model_contract.contract import contract_tests as contract_tests

__all__ = ["ModelContract", "contract_tests"]
