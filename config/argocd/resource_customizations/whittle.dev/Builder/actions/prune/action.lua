local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- Any new value empties the cache, once its builds have ended.
obj.metadata.annotations["whittle.dev/prune"] = os.date("!%Y-%m-%dT%XZ")
return obj
