"""The critique protocol: what a thinker is sent, how it replies, and how its replies are read.

    questions     the checklist: questions and answers
    places        boxes that a critique points at
    prompts       prompt templates
    messages      chat messages of a request, and of the request after an unreadable reply; Critique
    replies       chat completions, and the JSON objects in a reply
    scores        scores read from a reply, or computed from a checklist's answers; quoted scores are refused
    constraints   the exact form of a reply as a regular expression or a JSON schema
    formats       the three critique formats and the checklist's questions format
    editscore     two numbers from 0 to 25, as the reward model EditScore answers
    digit         one digit, read with its probabilities
    score_formats the formats of judges that only give scores: these two
    pairs         comparisons of two pictures

Each module imports only those above it.
"""
