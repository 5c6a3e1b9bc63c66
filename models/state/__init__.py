"""How state is kept: slots of subjects, columns of cells, owners and their saved form."""
