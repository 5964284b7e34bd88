-- Report who is in a room on one bridge, and publish it if that changes who is in the room.
--
-- KEYS  present (hash: bridge -> {until, count, users}), told (what was published last)
-- ARGV  channel, bridge, how long the report holds (s), most users in a list, 1 to publish in any
--       case, how many users are in the room on this bridge, the first of them
--       (JSON: [{id, name}, ...])
-- Returns how many users are in the room. The next report of any bridge removes what a bridge that
-- has not reported in time had reported.
local present, told = KEYS[1], KEYS[2]
local channel, bridge, life, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local in_any_case, count, users = ARGV[5] == '1', tonumber(ARGV[6]), ARGV[7]

local now = tonumber(redis.call('TIME')[1])
if count == 0 then
  redis.call('HDEL', present, bridge)
else
  local entry = '{"until":' .. now + life .. ',"count":' .. count .. ',"users":' .. users .. '}'
  redis.call('HSET', present, bridge, entry)
end

local total, is_exact, by_id = 0, true, {}
local entries = redis.call('HGETALL', present)
for i = 1, #entries, 2 do
  local entry = cjson.decode(entries[i + 1])
  if entry['until'] < now then
    redis.call('HDEL', present, entries[i])
  else
    total = total + entry.count
    is_exact = is_exact and entry.count == #entry.users
    for _, user in ipairs(entry.users) do by_id[user.id] = user.name end
  end
end

local ids, listed = {}, {}
for id in pairs(by_id) do ids[#ids + 1] = id end
table.sort(ids)
-- A user on two bridges counts once, as long as the lists are complete.
if is_exact then total = #ids end
for i = 1, math.min(#ids, most) do
  local name = cjson.encode(by_id[ids[i]])
  listed[i] = '{"id":' .. string.format('%.0f', ids[i]) .. ',"name":' .. name .. '}'
end
local text = '{"users":[' .. table.concat(listed, ',') .. '],"count":' .. total .. '}'

redis.call('EXPIRE', present, 2 * life)
if in_any_case or redis.call('GET', told) ~= text then
  redis.call('SET', told, text, 'EX', 2 * life)
  redis.call('PUBLISH', channel, '!presence ' .. text)
end
return total
