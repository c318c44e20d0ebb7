"""Files become a live deployment: parsed, validated in the engine, planned, applied, committed as one row."""

from pipit.deploy.deployer import Deployer, Outcome
from pipit.deploy.environments import EnvironmentOutcome
from pipit.deploy.plan import DeployRefused, Plan

__all__ = ["DeployRefused", "Deployer", "EnvironmentOutcome", "Outcome", "Plan"]
