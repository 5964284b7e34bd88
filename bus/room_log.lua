-- Append one event to a room's log and tell the room's channel, as one step.
--
-- KEYS  meta (hash: epoch, offset, began, rebuild), log (stream, ids "<offset>-0"),
--       seen (sorted set: event id by time), removed (sorted set: user id by time)
-- ARGV  event id, event (JSON), channel, longest log, life of a seen id (s), life of an idle
--       room (s), an epoch to use if there is none, replay run or "", added user, removed user
-- Returns the event's offset, or 0 when the event was seen before or the replay must not touch
-- this room.
local meta, log, seen, removed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, event, channel = ARGV[1], ARGV[2], ARGV[3]
local longest, seen_life, room_life = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local new_epoch, replay, added_user, removed_user = ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local known = redis.call('HMGET', meta, 'epoch', 'offset', 'rebuild')
local epoch, rebuild = known[1], known[3]
-- A reader may have begun the epoch before there was any event: then there is no log yet.
local empty = not epoch or known[2] == '0'

-- A replay fills a room that has no log, and only until the first live event comes.
if replay ~= '' and not empty and rebuild ~= replay then
  return 0
end

local time = redis.call('TIME')
local now = tonumber(time[1])
if not epoch or (empty and replay ~= '') then
  -- A replay publishes nothing: by the new epoch, readers that wait here learn of it later.
  epoch = new_epoch
  redis.call('DEL', log, seen)
  redis.call('HSET', meta, 'epoch', epoch, 'offset', 0,
    'began', string.format('%d.%06d', time[1], time[2]))
  if replay ~= '' then redis.call('HSET', meta, 'rebuild', replay) end
elseif replay == '' and rebuild then
  redis.call('HDEL', meta, 'rebuild')
end

if redis.call('ZADD', seen, 'NX', now, id) == 0 then
  return 0
end
redis.call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. (now - seen_life))

local offset = redis.call('HINCRBY', meta, 'offset', 1)
redis.call('XADD', log, 'MAXLEN', '~', longest, offset .. '-0', 'event', event)

redis.call('EXPIRE', meta, room_life)
redis.call('EXPIRE', log, room_life)
redis.call('EXPIRE', seen, room_life)
if replay ~= '' then
  return offset
end

-- Whom a ticket older than this event must not let in any more. Tickets live for less than
-- seen_life, so nobody needs to be kept for longer.
if removed_user ~= '' then
  redis.call('ZADD', removed, now, removed_user)
  redis.call('ZREMRANGEBYSCORE', removed, '-inf', '(' .. (now - seen_life))
  redis.call('EXPIRE', removed, seen_life)
elseif added_user ~= '' then
  redis.call('ZREM', removed, added_user)
end
redis.call('PUBLISH', channel, epoch .. ' ' .. offset .. ' ' .. event)
return offset
