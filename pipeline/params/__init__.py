"""The parameter file: its reader, and a module for each section of the stages that make pairs."""
