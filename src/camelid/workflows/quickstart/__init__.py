"""`camelid quickstart`: from raw text to a model you can talk to, with one setting: minutes.

Every step is an ordinary stage with its own recipe and folder. Finished steps are kept, so the same command
resumes after Ctrl-C.

    OUT/data        the generated world as files, unless text and chats are given
    OUT/tokenizer   OUT/pretrain   OUT/tune   OUT/model-4bit
    OUT/reinforce   with --reinforce: the tuned model after practice
    OUT/results     one JSON file for each model; the lines of every question
    OUT/report.html
"""
