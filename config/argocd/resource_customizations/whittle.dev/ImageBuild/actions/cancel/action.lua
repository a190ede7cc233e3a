if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
-- The number of the build: another one that has begun meanwhile goes on.
obj.metadata.annotations["whittle.dev/cancel"] = tostring(obj.status.build)
return obj
