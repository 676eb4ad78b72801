"""A world of small pictures in which a thinker has to look, and a thinker of four million parameters that learns in it.

photographs   the files, their splits, random crops
colour        CIELAB distance, faults (exposure, cast) and looks, in code that the editor does not share
looks         recipes, those of training and those held out
phrases       instructions in words, those of training and those held out
world         scenes: source, reference, instruction, hidden target; the editor
search        the best instruction of a scene, and the best one for all scenes of an instruction
gap           how much of the distance only looking removes
    turns         a scene with a candidate; the judge that knows the target
    rules         a thinker without weights, the baseline
    rows          turns with the replies that are taught, searched once
    prompts       the question, as the orchestrator asks it
    evaluating    how well a thinker's replies to given candidates are written and scored
    comparing     sessions of four edits, the table of strategies, paired differences

    model         a Qwen3-VL of four million parameters      } need torch
    batches       turns as tensors                           }
    stages        vision read-out and SFT, resumable         }
    grpo          RL with the edit's outcome, resumable      }
    pipeline      every stage of `make miniature`, in order  }
"""
