-- Hand a worker its next message, and note in the same step that it is unacknowledged.
-- Closes the gap between kombu's pop and its note. If the worker died in between, or its connection was
-- gone already, the message would be lost. The note has kombu's own form (QoS.append). kombu writes it
-- again, with the full visibility timeout, as soon as the worker has the message.
--
-- Returns the list and the message, or nil.
--! keys UNACKED INDEX ...
--! args note_after
for list = 3, #KEYS do
  local message = redis.call('RPOP', KEYS[list])
  if message then
    local read, content = pcall(cjson.decode, message)
    local properties = read and type(content) == 'table' and content.properties
    local from = type(properties) == 'table' and properties.delivery_info
    -- If this is no message of kombu's, write no note: nobody could acknowledge it. The worker reports it.
    if type(from) == 'table' and type(properties.delivery_tag) == 'string' then
      local exchange, routing_key = cjson.encode(from.exchange), cjson.encode(from.routing_key)
      local note = '[' .. message .. ',' .. exchange .. ',' .. routing_key .. ']'
      redis.call('HSET', UNACKED, properties.delivery_tag, note)
      redis.call('ZADD', INDEX, redis.call('TIME')[1] + note_after, properties.delivery_tag)
    end
    return {KEYS[list], message}
  end
end
return nil
