"""Sessions as training data: rows, pairs and files that the field's trainers read (`editthinker export`).

critiques   what a session's events say of each critique, and the published reward
pairs       which of two pictures is better, by judges and by people
layouts     the columns of each trainer
pictures    pictures without metadata
shards      files that are complete or absent, and where to continue
exporting   the export itself
"""
