"""CO-RE relocations: matching, values, patching, minimizing."""
