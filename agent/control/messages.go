package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// MaxMessage is the longest text of a message, in bytes.
const MaxMessage = 32 << 10

// Message is a text that was written here or received.
type Message struct {
	// Seq is its place among all that this device wrote or received; it grows by
	// one with each. It, and no clock, is the order of messages.
	Seq       uint64 `json:"seq"`
	ID        string `json:"id"`
	Direction string `json:"direction"`           // "send" or "receive"
	Peer      string `json:"peer,omitempty"`      // receive: DeviceID of the sender
	PeerName  string `json:"peer_name,omitempty"` // likewise
	// To are the devices that a message of ours is for.
	To []Recipient `json:"to,omitempty"`
	// Text is escaped for a screen, but for its line breaks and tabs: what shows it
	// must set the lines after the first apart, as they can say anything.
	Text string `json:"text"`
	// State is "received", or what is worst among To: "waiting" while it is for any,
	// then "failed", "refused", "delivered".
	State string `json:"state"`
	Time  string `json:"time"` // RFC 3339, by this device's clock, which may be wrong
}

// Recipient is a device that a message of ours is for.
type Recipient struct {
	Peer     string `json:"peer"` // DeviceID
	PeerName string `json:"peer_name"`
	State    string `json:"state"` // "waiting", "delivered", "refused", "failed"
	// Near says that a waiting message is being sent: the device can be reached now.
	Near      bool   `json:"near,omitempty"`
	Error     string `json:"error,omitempty"`      // why it is not delivered, one sentence
	ErrorCode string `json:"error_code,omitempty"` // additive: "full", "refused", "cancelled", "untrusted", ...
	Hint      string `json:"hint,omitempty"`
}

// Unread says what the person has not seen.
type Unread struct {
	Read  uint64 `json:"read"`  // every message up to this number was read
	Count int    `json:"count"` // messages received after it
}

// MessageRequest sends a text to devices.
type MessageRequest struct {
	Text string   `json:"text"`          // 1 to 32768 bytes of UTF-8
	To   []string `json:"to,omitempty"`  // DeviceIDs, names, short IDs or addresses
	All  bool     `json:"all,omitempty"` // to every trusted device that is near
}

// MessageQuery says which messages are wanted; the zero value is the newest 50.
type MessageQuery struct {
	Since  uint64 // with a higher number; 0 is no bound
	Before uint64 // with a lower number; 0 is no bound
	Oldest bool   // the oldest of those that fit are taken, so that a reader can go on, else the newest
	Limit  int    // at most so many, and never more than 500 or some 1 MiB; 0 is 50
	Search string // with this in their text, whatever its case
	From   string // that this device sent here: anything that names a device
	// Waiting wants those that wait for somebody.
	Waiting bool
}

// MessagePage is an answer to a MessageQuery.
type MessagePage struct {
	Messages []Message `json:"messages"` // in the order of their numbers
	More     bool      `json:"more"`     // there are more that fit the query
	Unread   Unread    `json:"unread"`
}

// ReadRequest notes that the person has seen every message up to a number.
type ReadRequest struct {
	Seq uint64 `json:"seq"`
}

// maxQuery bounds what is searched for, in bytes.
const maxQuery = 1024

// values returns q as the parameters of GET /v1/messages.
func (q MessageQuery) values() url.Values {
	v := url.Values{}
	for name, n := range map[string]uint64{"since": q.Since, "before": q.Before, "limit": uint64(max(q.Limit, 0))} {
		if n > 0 {
			v.Set(name, strconv.FormatUint(n, 10))
		}
	}
	for name, s := range map[string]string{"search": q.Search, "from": q.From} {
		if s != "" {
			v.Set(name, s)
		}
	}
	for name, on := range map[string]bool{"oldest": q.Oldest, "waiting": q.Waiting} {
		if on {
			v.Set(name, "true")
		}
	}
	return v
}

// messageQuery reads the parameters of GET /v1/messages. One that it does not know
// is an error: it asks for something that this agent cannot do.
func messageQuery(v url.Values) (MessageQuery, error) {
	var q MessageQuery
	for name, values := range v {
		value := values[0]
		if len(value) > maxQuery {
			return q, &Error{Code: CodeUsage, Message: fmt.Sprintf("%s is longer than %d bytes", name, maxQuery)}
		}
		var err error
		switch name {
		case "since":
			q.Since, err = strconv.ParseUint(value, 10, 64)
		case "before":
			q.Before, err = strconv.ParseUint(value, 10, 64)
		case "limit":
			q.Limit, err = strconv.Atoi(value)
		case "search":
			q.Search = value
		case "from":
			q.From = value
		case "oldest":
			q.Oldest, err = strconv.ParseBool(value)
		case "waiting":
			q.Waiting, err = strconv.ParseBool(value)
		default:
			return q, &Error{Code: CodeUsage, Message: fmt.Sprintf("the parameter %.40q is not known", name),
				Hint: "the agent and the command may be of different versions: restart the agent"}
		}
		if err != nil {
			return q, &Error{Code: CodeUsage, Message: fmt.Sprintf("%s cannot be %.40q", name, value)}
		}
	}
	return q, nil
}

// messageRoutes serves messages.
func messageRoutes(b Backend, handle func(pattern string, fn func(http.ResponseWriter, *http.Request) (any, error))) {
	handle("GET /v1/messages", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		q, err := messageQuery(r.URL.Query())
		if err != nil {
			return nil, err
		}
		v, err := b.Messages(r.Context(), q)
		v.Messages = orEmpty(v.Messages)
		return v, err
	})
	handle("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q MessageRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.SendMessage(r.Context(), q)
	})
	handle("POST /v1/messages/read", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q ReadRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.ReadMessages(r.Context(), q)
	})
	handle("POST /v1/messages/{id}/cancel", func(w http.ResponseWriter, r *http.Request) (any, error) {
		id, err := read(w, r, &empty{})
		if err != nil {
			return nil, err
		}
		return empty{}, b.CancelMessage(r.Context(), id)
	})
}

// Messages returns messages in the order of their numbers.
func (c *Client) Messages(ctx context.Context, q MessageQuery) (MessagePage, error) {
	path := "/v1/messages"
	if v := q.values(); len(v) > 0 {
		path += "?" + v.Encode()
	}
	return call[MessagePage](c, ctx, http.MethodGet, path, nil)
}

// SendMessage writes a message into the outbox and returns it once it is on the
// disk; its fate follows in events.
func (c *Client) SendMessage(ctx context.Context, r MessageRequest) (Message, error) {
	return call[Message](c, ctx, http.MethodPost, "/v1/messages", r)
}

// CancelMessage takes a message back from the devices that do not have it. It takes
// an ID or an unambiguous prefix of one.
func (c *Client) CancelMessage(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/messages/"+url.PathEscape(id)+"/cancel", empty{})
}

// ReadMessages notes that the person has seen every message up to a number, and
// returns what is left.
func (c *Client) ReadMessages(ctx context.Context, r ReadRequest) (Unread, error) {
	return call[Unread](c, ctx, http.MethodPost, "/v1/messages/read", r)
}
