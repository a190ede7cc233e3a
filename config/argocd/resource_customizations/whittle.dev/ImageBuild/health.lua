-- By observedGeneration and the conditions of kstatus, in its order; messages are those of the conditions.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "waiting for the controller to observe generation " .. tostring(obj.metadata.generation)}
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local reconciling = conditions["Reconciling"]
if reconciling ~= nil and reconciling.status == "True" then
  return {status = "Progressing", message = reconciling.message}
end
local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
local ready = conditions["Ready"]
if ready == nil then
  return {status = "Progressing", message = "waiting for the condition Ready"}
end
if ready.status == "True" then
  return {status = "Healthy", message = ready.message}
end
-- A build is due, or its next attempt, and spec.suspend holds it.
if ready.reason == "Suspended" then
  return {status = "Suspended", message = ready.message}
end
return {status = "Progressing", message = ready.message}
