"""What must hold: one file a topic, one test a clause."""
