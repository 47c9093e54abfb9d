"""What a suite says: frozen specs, read from YAML and checked. Imports no torch."""

from rstbench.spec.base import Spec, canonical_json, digest, distance
from rstbench.spec.faults import Fault
from rstbench.spec.load import find_faults, load_suite
from rstbench.spec.schema import json_schema
from rstbench.spec.suite import PROFILES, Suite, SuiteFile, SuiteSpec

__all__ = [
    "PROFILES",
    "Fault",
    "Spec",
    "Suite",
    "SuiteFile",
    "SuiteSpec",
    "canonical_json",
    "digest",
    "distance",
    "find_faults",
    "json_schema",
    "load_suite",
]
