-- Takes the mark off requests from outside: runs at the edge, in the HTTP filter that envoy_filter/edge.py renders.
-- That renderer puts a table `settings` in front of this file (names of headers), so that nothing stands both here
-- and in Python.

-- The members of baggage that are not ours, in their order; nil when none is left.
local function others(baggage)
  local kept = {}
  for member in baggage:gmatch("[^,]+") do
    if not member:find("^[ \t]*" .. settings.member .. "[ \t]*=") then
      kept[#kept + 1] = member
    end
  end
  return #kept > 0 and table.concat(kept, ",") or nil
end

function envoy_on_request(handle)
  local request = handle:headers()
  request:remove(settings.mark)
  local baggage = request:get(settings.baggage)
  local left = baggage and others(baggage)
  if left ~= baggage then
    request:remove(settings.baggage)
    if left then
      request:add(settings.baggage, left)
    end
  end
end
