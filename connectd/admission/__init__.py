"""Who may come in: lists and limits before the first byte (COM-4), failed proofs after it (COM-11)."""

from connectd.admission.addresses import source_key
from connectd.admission.connections import Admission, Refusal
from connectd.admission.guard import WRONG_PROOF, guard
from connectd.admission.limits import AdmissionLimits
from connectd.admission.proofs import ProofLedger, ProofVerdict

__all__ = [
    "WRONG_PROOF",
    "Admission",
    "AdmissionLimits",
    "ProofLedger",
    "ProofVerdict",
    "Refusal",
    "guard",
    "source_key",
]
