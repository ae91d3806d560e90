"""Run many things once each: resumable, limited, measured."""
