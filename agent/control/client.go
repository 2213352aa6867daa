package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// maxAnswer bounds an answer, so that a broken agent cannot fill a face's memory.
const maxAnswer = 64 << 20

// Client speaks to an agent. The zero value is ready to use and is safe for
// concurrent use; it must not be copied after the first call. Every call dials
// the socket anew, so a Client holds nothing that would have to be closed and
// outlives a restart of the agent.
//
// Every method blocks until the agent answered or ctx ended. Its error is an
// [*Error], except that a cancelled ctx gives an error for which
// errors.Is(err, context.Canceled) holds. An agent that is not there is
// CodeNoAgent, a ctx past its deadline is CodeTimeout.
type Client struct {
	// Socket is the agent's socket; "" means [FindSocket] at each call.
	Socket string

	once sync.Once
	http *http.Client
}

// Status returns the agent, its radio, groups and links.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](c, ctx, http.MethodGet, "/v1/status", nil)
}

// Peers returns the devices near and known.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	v, err := call[peersAnswer](c, ctx, http.MethodGet, "/v1/peers", nil)
	return v.Peers, err
}

// Inbox returns the questions that wait for a person.
func (c *Client) Inbox(ctx context.Context) ([]InboxItem, error) {
	v, err := call[inboxAnswer](c, ctx, http.MethodGet, "/v1/inbox", nil)
	return v.Items, err
}

// Accept answers yes to an inbox item.
func (c *Client) Accept(ctx context.Context, id string, r AcceptRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/inbox/"+url.PathEscape(id)+"/accept", r)
}

// Refuse answers no to an inbox item.
func (c *Client) Refuse(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/inbox/"+url.PathEscape(id)+"/refuse", empty{})
}

// Transfers returns the transfers that the agent knows, running and ended.
func (c *Client) Transfers(ctx context.Context) ([]Transfer, error) {
	v, err := call[transfersAnswer](c, ctx, http.MethodGet, "/v1/transfers", nil)
	return v.Transfers, err
}

// Send offers paths to devices and returns one transfer for each device, once
// the offers are made or queued.
func (c *Client) Send(ctx context.Context, r SendRequest) ([]Transfer, error) {
	v, err := call[transfersAnswer](c, ctx, http.MethodPost, "/v1/transfers", r)
	return v.Transfers, err
}

// CancelTransfer ends a transfer for good. Like the next two it takes an ID or an
// unambiguous prefix of one.
func (c *Client) CancelTransfer(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/transfers/"+url.PathEscape(id)+"/cancel", empty{})
}

// PauseTransfer stops a transfer until ResumeTransfer.
func (c *Client) PauseTransfer(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/transfers/"+url.PathEscape(id)+"/pause", empty{})
}

// ResumeTransfer goes on with a paused transfer.
func (c *Client) ResumeTransfer(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/transfers/"+url.PathEscape(id)+"/resume", empty{})
}

// Trust returns the trust book.
func (c *Client) Trust(ctx context.Context) ([]Trusted, error) {
	v, err := call[trustAnswer](c, ctx, http.MethodGet, "/v1/trust", nil)
	return v.Devices, err
}

// ChangeTrust changes the trust book and returns the entry as it is now.
func (c *Client) ChangeTrust(ctx context.Context, r TrustRequest) (Trusted, error) {
	return call[Trusted](c, ctx, http.MethodPost, "/v1/trust", r)
}

// ExportTrust returns the whole trust book as text.
func (c *Client) ExportTrust(ctx context.Context) (TrustDocument, error) {
	return call[TrustDocument](c, ctx, http.MethodGet, "/v1/trust/export", nil)
}

// ImportTrust merges an exported trust book into the agent's.
func (c *Client) ImportTrust(ctx context.Context, d TrustDocument) (TrustImport, error) {
	return call[TrustImport](c, ctx, http.MethodPost, "/v1/trust/import", d)
}

// Configuration returns the settings as they count.
func (c *Client) Configuration(ctx context.Context) (Configuration, error) {
	return call[Configuration](c, ctx, http.MethodGet, "/v1/config", nil)
}

// ChangeConfiguration keeps settings that a person chose, and returns what counts then.
func (c *Client) ChangeConfiguration(ctx context.Context, r SettingsRequest) (Configuration, error) {
	return call[Configuration](c, ctx, http.MethodPost, "/v1/config", r)
}

// ReloadConfiguration has the agent read its settings and the policy again, and returns
// what counts then.
func (c *Client) ReloadConfiguration(ctx context.Context) (Configuration, error) {
	return call[Configuration](c, ctx, http.MethodPost, "/v1/config/reload", empty{})
}

// Pair begins to pair and returns once the code to compare is known; with a setup
// code it returns when the two are paired. It may have to form a Wi-Fi Direct group
// first; when ctx ends the pairing does too.
func (c *Client) Pair(ctx context.Context, r PairRequest) (Pairing, error) {
	return call[Pairing](c, ctx, http.MethodPost, "/v1/pairings", r)
}

// WaitPairing blocks until the pairing with this ID is over and returns it when it
// succeeded, else why it did not. It is answered by [Client.Accept] and
// [Client.Refuse], which may be called meanwhile.
func (c *Client) WaitPairing(ctx context.Context, id string) (Pairing, error) {
	return call[Pairing](c, ctx, http.MethodGet, "/v1/pairings/"+url.PathEscape(id), nil)
}

// SetupCode returns this device's setup code, made at the first call.
func (c *Client) SetupCode(ctx context.Context, r SetupCodeRequest) (SetupCode, error) {
	return call[SetupCode](c, ctx, http.MethodPost, "/v1/setup-code", r)
}

// Addresses returns the addresses that were typed.
func (c *Client) Addresses(ctx context.Context) ([]Address, error) {
	v, err := call[addressesAnswer](c, ctx, http.MethodGet, "/v1/addresses", nil)
	return v.Addresses, err
}

// ChangeAddress greets and keeps a typed address, or removes some, and returns
// them.
func (c *Client) ChangeAddress(ctx context.Context, r AddressRequest) ([]Address, error) {
	v, err := call[addressesAnswer](c, ctx, http.MethodPost, "/v1/addresses", r)
	return v.Addresses, err
}

// Find starts to look for Wi-Fi Direct devices; they follow in events.
func (c *Client) Find(ctx context.Context, r FindRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/find", r)
}

// Groups returns this device's Wi-Fi Direct groups, those that it owns with their
// passphrase.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	v, err := call[groupsAnswer](c, ctx, http.MethodGet, "/v1/groups", nil)
	return v.Groups, err
}

// Group creates, joins or invites, and blocks until the group is up, the
// invitation went out, or it failed.
func (c *Client) Group(ctx context.Context, r GroupRequest) (Group, error) {
	return call[Group](c, ctx, http.MethodPost, "/v1/groups", r)
}

// LeaveGroup leaves the group on ifname, or ends it where this device owns it;
// ifname may be [AnyGroup]. It answers within some seconds: the group is gone, or
// what keeps it.
func (c *Client) LeaveGroup(ctx context.Context, ifname string) error {
	return c.do(ctx, http.MethodDelete, "/v1/groups/"+url.PathEscape(ifname), nil)
}

// Doctor returns the agent's checks.
func (c *Client) Doctor(ctx context.Context) ([]Check, error) {
	v, err := call[doctorAnswer](c, ctx, http.MethodGet, "/v1/doctor", nil)
	return v.Checks, err
}

// Log returns the last lines of the agent's log, oldest first.
func (c *Client) Log(ctx context.Context) ([]LogLine, error) {
	v, err := call[logAnswer](c, ctx, http.MethodGet, "/v1/log", nil)
	return v.Lines, err
}

// Watch returns the state now and every change after it. The channel is closed
// after an event of type "end" (the agent stopped, or this reader fell behind:
// its Reason says which), or without one after ctx ended. The caller reads until
// then, or ends ctx; to go on it calls Watch again.
func (c *Client) Watch(ctx context.Context) (<-chan Event, error) {
	return c.events(ctx, "/v1/events")
}

// WatchLog is [Client.Watch] with the log: the state has its last lines, and what is
// logged follows as events of type "log". The agent does not wait for a slow reader: a
// line says how many before it are missing ([LogLine]).
func (c *Client) WatchLog(ctx context.Context) (<-chan Event, error) {
	return c.events(ctx, "/v1/events?log=true")
}

func (c *Client) events(ctx context.Context, path string) (<-chan Event, error) {
	resp, err := c.request(ctx, http.MethodGet, path, nil) //nolint:bodyclose // the goroutine below closes it
	if err != nil {
		return nil, err
	}
	events := make(chan Event)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		dec := json.NewDecoder(resp.Body)
		var last Event
		for last.Type != "end" {
			var e Event
			if err := dec.Decode(&e); err != nil {
				if ctx.Err() != nil {
					return
				}
				e = Event{Seq: last.Seq + 1, Type: "end", Reason: "the agent went away"}
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
			last = e
		}
	}()
	return events, nil
}

// do is call for a request whose answer says nothing.
func (c *Client) do(ctx context.Context, method, path string, body any) error {
	_, err := call[empty](c, ctx, method, path, body)
	return err
}

// call sends one request and reads its answer, a T.
func call[T any](c *Client, ctx context.Context, method, path string, body any) (T, error) {
	var answer T
	err := c.exchange(ctx, method, path, body, &answer)
	return answer, err
}

// exchange is call for an answer of any type, so that there are not as many of it as types.
func (c *Client) exchange(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return broken(ctx, err)
	}
	return nil
}

// request returns a response with status 200, whose Body the caller closes.
func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil { // no type here can fail to marshal
			panic(err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://nigh"+path, content)
	if err != nil {
		return nil, &Error{Code: CodeUsage, Message: "the request cannot be made: " + err.Error()}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.once.Do(func() {
		c.http = &http.Client{
			Transport:     &http.Transport{DialContext: c.dial, DisableKeepAlives: true, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	})
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	if v := resp.Header.Get(versionHeader); v != strconv.Itoa(Version) {
		resp.Body.Close()
		return nil, &Error{Code: CodeFailed,
			Message: fmt.Sprintf("the agent speaks version %.8q of the local API, this program %d", v, Version),
			Hint:    "restart the agent so that both are of one version"}
	}
	return resp, nil
}

// refusal reads the error that the agent answered with.
func refusal(resp *http.Response) *Error {
	e := &Error{}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(e)
	if err != nil || e.Code == "" || e.Message == "" {
		return &Error{Code: CodeFailed, Message: "what answers on the socket is not a nigh agent: " + resp.Status,
			Hint: "check NIGH_SOCKET"}
	}
	return e
}

// broken turns an error of the connection into one for people.
func broken(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("control: %w", context.Canceled)
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Message: "the agent did not answer in time"}
	default:
		return &Error{Code: CodeNoAgent, Message: "the agent went away in the middle of the answer",
			Hint: "see its log: journalctl -u nigh@" + userName()}
	}
}

// dial connects to the agent and checks that it is one of this user's or root's:
// another user's program in the socket's place would learn what we send.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	path := c.Socket
	if path == "" {
		path = FindSocket()
	}
	if len(path) > maxSocketPath {
		return nil, longPath(path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{Code: CodePermission, Message: "this user may not use the agent at " + path,
			Hint: "use an agent of your own, or sudo"}
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, NoAgent()
	default:
		return nil, &Error{Code: CodeNoAgent, Message: "no agent can be reached at " + path + ": " + cause(err),
			Hint: "check NIGH_SOCKET"}
	}
	cred, err := credentials(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	me := os.Geteuid()
	if me != 0 && cred.Uid != 0 && int(cred.Uid) != me {
		conn.Close()
		return nil, &Error{Code: CodePermission,
			Message: fmt.Sprintf("the agent at %s runs as another user (uid %d)", path, cred.Uid),
			Hint:    "check NIGH_SOCKET"}
	}
	return conn, nil
}

// cause returns the innermost text of err, such as "not a directory".
func cause(err error) string {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	return err.Error()
}

// NoAgent returns the error for a socket at which no agent answers.
func NoAgent() *Error {
	hint := "run: nigh agent"
	if _, err := os.Lstat("/run/systemd/system"); err == nil { // sd_booted(3)
		hint += ", or have it run all the time: sudo nigh service install"
		for _, folder := range []string{"/etc", "/usr/local/lib", "/usr/lib", "/lib"} {
			if _, err := os.Stat(folder + "/systemd/system/nigh@.service"); err == nil {
				hint = "start it with: sudo systemctl start nigh@" + userName() + ", or run: nigh agent"
			}
		}
	}
	return &Error{Code: CodeNoAgent, Message: "the agent is not running", Hint: hint}
}
