-- What the scripts of this directory share. The renderer puts it, and before it a table `settings`, in front of each.

-- Headers come from strangers. The sidecar's HTTP parser refuses control characters, and a call that it refuses would
-- be a hold that never was, so they are taken out here; their length is bounded here, too.
local function clean(value, longest)
  return (value:sub(1, longest):gsub("%c", " "))
end

local function call(handle, method, path, timeout_ms, headers, unanswered)
  headers[":method"] = method
  headers[":path"] = path
  headers[":authority"] = "squash-sidecar"
  -- Does not block the worker: Envoy suspends this script, and with it the request, body and trailers.
  -- The call is broken off when the request's caller hangs up; that is how the sidecar hears of it.
  return handle:httpCall(settings.cluster, headers, nil, timeout_ms, unanswered == true)
end

-- What the sidecar is told of a request.
local function forwarded(request)
  local told = {}
  for source, header in pairs(settings.forwarded) do
    local value = request:get(source)
    if value then
      told[header.name] = clean(value, header.longest)
    end
  end
  return told
end

-- Puts on a request's headers what the sidecar has answered for its way onwards.
local function onward(request, answer)
  for _, name in ipairs(settings.onward) do
    if answer[name] then
      request:replace(name, answer[name])
    end
  end
end

-- What was noted on this request, for the response and for access logs: %DYNAMIC_METADATA(squash:result)%.
local function noted(handle)
  return handle:streamInfo():dynamicMetadata():get("squash") or {}
end

local function note(handle, name, value)
  handle:streamInfo():dynamicMetadata():set("squash", name, value)
end
