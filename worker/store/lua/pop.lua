-- Hands a worker its next message, and notes in the same step that it is unacknowledged.
-- Closes the gap between a pop and its note: what was popped for a worker that dies in between, or
-- for a connection that is gone already, would be lost. The note is kombu's own (QoS.append), which
-- writes it again with the full visibility timeout as soon as the worker has the message.
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
    -- What is no message of kombu's is for the worker to report; nobody could acknowledge it.
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
