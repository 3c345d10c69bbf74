"""Layer 4: makes patches. Prompts -> candidates -> pairs -> SFT -> DPO -> Patch; every stage resumes from its file."""
