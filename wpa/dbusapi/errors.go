package dbusapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/godbus/dbus/v5"
)

// The classes of errors that a call can end with. A [CallError] unwraps to one of them.
var (
	// ErrDenied means that the bus policy, or the supplicant, does not let this user call the method.
	ErrDenied = errors.New("access denied by the D-Bus policy")
	// ErrNoSupplicant means that no program owns the name fi.w1.wpa_supplicant1 on the bus.
	ErrNoSupplicant = errors.New("wpa_supplicant is not running on the bus")
	// ErrDisconnected means that the connection to the bus is lost.
	ErrDisconnected = errors.New("connection to the bus is lost")
	// ErrNoReply means that the supplicant did not answer in [CallTimeout], or left the bus before it answered.
	ErrNoReply = errors.New("wpa_supplicant did not answer")
	// ErrUnknownInterface means that the supplicant does not have the interface, or has no owner of P2P.
	ErrUnknownInterface = errors.New("interface unknown to wpa_supplicant")
	// ErrInterfaceExists means that the supplicant has the interface already.
	ErrInterfaceExists = errors.New("interface exists in wpa_supplicant")
	// ErrUnknownObject means that the object path is dead: a peer, group or persistent group that is gone.
	ErrUnknownObject = errors.New("object is gone")
	// ErrInvalidArgs means that the supplicant refused an argument. It also stands for any failure of GroupAdd, and
	// for a peer that Connect or Invite does not know any more.
	ErrInvalidArgs = errors.New("arguments refused")
	// ErrChannelUnavailable means that the frequency asked for is taken by another connection of a one-channel radio.
	ErrChannelUnavailable = errors.New("channel is not available")
	// ErrChannelUnsupported means that the radio or the regulatory domain does not allow the frequency asked for.
	ErrChannelUnsupported = errors.New("channel is not supported")
	// ErrFailed is every other error that the supplicant answers with.
	ErrFailed = errors.New("call failed")
)

// CallError is the error of one D-Bus call. It unwraps to one of this package's sentinels.
type CallError struct {
	Method  string // such as "P2PDevice.Find"
	Name    string // D-Bus error name; empty when no error message arrived
	Message string // first string of the error's body
	Class   error  // one of the sentinels
}

// Error returns the method, what went wrong and the supplicant's own words.
func (e *CallError) Error() string {
	switch {
	case e.Name == "":
		return fmt.Sprintf("%s: %v", e.Method, e.Class)
	case e.Message == "":
		return fmt.Sprintf("%s: %v (%s)", e.Method, e.Class, e.Name)
	}
	return fmt.Sprintf("%s: %v (%s: %s)", e.Method, e.Class, e.Name, cut(e.Message))
}

// Unwrap returns the class of the error.
func (e *CallError) Unwrap() error { return e.Class }

var classes = map[string]error{
	"org.freedesktop.DBus.Error.AccessDenied":                     ErrDenied,
	"org.freedesktop.DBus.Error.AuthFailed":                       ErrDenied,
	"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": ErrDenied,
	"org.freedesktop.DBus.Error.ServiceUnknown":                   ErrNoSupplicant,
	"org.freedesktop.DBus.Error.NameHasNoOwner":                   ErrNoSupplicant,
	"org.freedesktop.DBus.Error.Spawn.ServiceNotFound":            ErrNoSupplicant,
	"org.freedesktop.DBus.Error.NoReply":                          ErrNoReply,
	"org.freedesktop.DBus.Error.Timeout":                          ErrNoReply,
	"org.freedesktop.DBus.Error.TimedOut":                         ErrNoReply,
	"org.freedesktop.DBus.Error.UnknownMethod":                    ErrUnknownObject,
	"org.freedesktop.DBus.Error.UnknownObject":                    ErrUnknownObject,
	"org.freedesktop.DBus.Error.UnknownInterface":                 ErrUnknownObject,
	"org.freedesktop.DBus.Error.InvalidArgs":                      ErrInvalidArgs,
	Name + ".InvalidArgs":                                         ErrInvalidArgs,
	Name + ".InterfaceUnknown":                                    ErrUnknownInterface,
	Name + ".InterfaceExists":                                     ErrInterfaceExists,
	Name + ".NetworkUnknown":                                      ErrUnknownObject,
	Name + ".ConnectChannelUnavailable":                           ErrChannelUnavailable,
	Name + ".ConnectChannelUnsupported":                           ErrChannelUnsupported,
}

// callError turns what godbus returned into a CallError of the right class; nil stays nil.
func callError(method string, err error) error {
	if err == nil {
		return nil
	}
	e := &CallError{Method: method, Class: ErrFailed}
	var de dbus.Error
	var dp *dbus.Error
	switch {
	case errors.As(err, &dp):
		de = *dp
	case errors.As(err, &de):
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", method, err)
	case errors.Is(err, context.DeadlineExceeded):
		e.Class = ErrNoReply
		return e
	case errors.Is(err, dbus.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		e.Class = ErrDisconnected
		return e
	default:
		if _, ok := errors.AsType[*net.OpError](err); ok {
			e.Class = ErrDisconnected
			return e
		}
		e.Message, e.Name = err.Error(), "decode"
		return e
	}
	e.Name = de.Name
	if len(de.Body) > 0 {
		e.Message, _ = de.Body[0].(string)
	}
	if c, ok := classes[de.Name]; ok {
		e.Class = c
	}
	return e
}

// cut bounds a text that another program wrote.
func cut(s string) string {
	if len(s) > MaxText {
		return s[:MaxText]
	}
	return s
}
