return {["prune"] = {["disabled"] = false}}
