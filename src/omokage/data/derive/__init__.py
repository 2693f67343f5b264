"""From face sets to face sets, and what is told of them: choosing, splitting, joining, counting."""
