-- Auto-debug: runs inside Envoy while a debug request with a trigger is pending. The renderer (envoy_filter/auto.py)
-- puts a table `settings` and prelude.lua in front of this file, and says in `settings.role` which of the two filters
-- it is.

-- Until when the sidecar is not asked, because it has let a request wait in vain; each worker of Envoy has its own.
local silent_until = 0

-- Whether the sidecar wants this one. It decides that by itself, at once; one that takes longer is frozen or out of
-- reach, and requests must not pay for that one after the other.
local function wanted(handle, path, told)
  local now = handle:timestamp()
  if now < silent_until then
    return false
  end
  if silent_until > 0 then
    -- This one finds out whether it answers again; those that come meanwhile do not wait.
    silent_until = now + settings.silence_ms
  end
  local status = call(handle, "POST", path, settings.decision_timeout_ms, told)[":status"]
  silent_until = status == settings.timed_out and handle:timestamp() + settings.silence_ms or 0
  return status == "202"
end

-- What the sidecar says at the end of the hold; nil when there was none.
local function ask(handle, path, told)
  if not wanted(handle, path, told) then
    return nil
  end
  local answer = call(handle, "POST", path .. "/hold", settings.attachment_timeout_ms, told)
  if answer[":status"] == "200" and answer[settings.result_header] then
    note(handle, "result", answer[settings.result_header])
    note(handle, settings.held, "true")
    return answer
  end
end

-- A script that sees a response cannot see its request: the filter beside this one has put what is to be told of it
-- on the response, under names that begin with `settings.told`. They are taken off again here.
local function seen(response)
  local told, ours, answers = {}, {}, 0
  for name, value in pairs(response) do
    if name:sub(1, #settings.told) == settings.told then
      table.insert(ours, name)
      local wire = name:sub(#settings.told + 1)
      told[wire] = clean(value, settings.longest[wire] or settings.longest_otherwise)
    elseif name == ":status" then
      told[settings.status] = value
    elseif name:sub(1, 1) ~= ":" and answers < settings.most_headers then
      answers = answers + 1
      told[settings.answer .. name] = clean(value, settings.longest_otherwise)
    end
  end
  for _, name in ipairs(ours) do
    response:remove(name)
  end
  told[settings.largest_header] = tostring(settings.largest)
  return told
end

-- An answer that has failed waits here until the sidecar knows whether a debugger gets a second try of the request.
local function failed(handle, told)
  if not told[settings.status]:find(settings.failed) then
    return
  end
  local answer = ask(handle, "/auto/failure", told)
  if answer and answer[settings.replay] then
    -- Anew, because Envoy takes back what it gave before the script was suspended.
    handle:headers():add(settings.replay, "yes")
    note(handle, "mark", settings.mark_value)
  end
end

-- Whatever goes wrong in there, the request or its answer goes on.
local function guarded(handle, doing, ...)
  local ok, problem = pcall(doing, handle, ...)
  if not ok then
    handle:logErr("squash: " .. tostring(problem))
  end
end

if settings.role == "failure" then
  function envoy_on_response(handle)
    guarded(handle, failed, seen(handle:headers()))
  end
else
  local function due(handle)
    local answer = ask(handle, "/auto/next", forwarded(handle:headers()))
    if answer then
      -- Anew, because Envoy takes back what it gave before the script was suspended.
      local request = handle:headers()
      request:replace(settings.mark, settings.mark_value)
      onward(request, answer)
    end
  end
  function envoy_on_request(handle)
    guarded(handle, due)
  end
  -- With the mark it may have taken another route, which knows nothing of this.
  function envoy_on_response(handle)
    local result = noted(handle).result
    if result then
      handle:headers():replace(settings.result_header, result)
    end
  end
end
