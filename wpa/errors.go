package wpa

import (
	"context"
	"errors"
	"fmt"

	"nigh/wpa/dbusapi"
)

// CallError is the error of one D-Bus call that the supplicant refused; use errors.AsType to read its fields.
type CallError = dbusapi.CallError

// The errors of this package, wrapped with what was done. Hint says what to do about each.
var (
	ErrNoBus                  = errors.New("no D-Bus system bus")
	ErrNoSupplicant           = dbusapi.ErrNoSupplicant
	ErrNoInterface            = errors.New("wpa_supplicant has no Wi-Fi interface")
	ErrNoP2P                  = errors.New("this radio or this wpa_supplicant cannot do Wi-Fi Direct")
	ErrP2PEnded               = errors.New("wpa_supplicant's Wi-Fi Direct ended with the adapter that it was on")
	ErrIWD                    = errors.New("iwd runs the radio instead of wpa_supplicant")
	ErrDenied                 = dbusapi.ErrDenied
	ErrRadioOff               = errors.New("the radio is switched off")
	ErrBusy                   = errors.New("another group formation or group is in the way")
	ErrPeerGone               = errors.New("the device is not near")
	ErrRejected               = errors.New("the other side refused")
	ErrTimeout                = errors.New("the other side did not answer in time")
	ErrWrongPIN               = errors.New("the PIN is wrong")
	ErrOverlap                = errors.New("two devices pressed the button at the same time")
	ErrChannel                = errors.New("no channel that both sides may use")
	ErrMethod                 = errors.New("the two sides chose different methods")
	ErrFormation              = errors.New("the group could not be formed")
	ErrKilledByNetworkManager = errors.New("NetworkManager removed the group")
	ErrSupplicantGone         = errors.New("wpa_supplicant stopped")
	ErrUnsupported            = errors.New("wpa_supplicant does not support this")
	ErrNoGroup                = errors.New("no such group")
	ErrBadMethod              = errors.New("not a usable method")
	ErrConfig                 = errors.New("not a usable configuration")
	ErrLimited                = errors.New("NetworkManager's Wi-Fi Direct cannot do this")
	ErrEngine                 = errors.New("the engine cannot be used")
	ErrClosed                 = errors.New("the radio is closed")
)

var hints = []struct {
	err  error
	text string
}{
	{ErrKilledByNetworkManager, "Have NetworkManager leave groups alone: `sudo nigh doctor --fix networkmanager`."},
	{ErrLimited, "Have NetworkManager leave groups to nigh: `sudo nigh doctor --fix networkmanager`, then start nigh again."},
	{ErrEngine, "Leave the choice to nigh: take the setting `engine` away; `nigh doctor` says what is found."},
	{ErrNoBus, "Start the D-Bus system bus: `sudo systemctl start dbus`."},
	{ErrIWD, "Wi-Fi Direct needs wpa_supplicant: stop iwd and start wpa_supplicant, or use LAN."},
	{ErrDenied, "Run nigh as its service, `sudo systemctl enable --now nigh@USER`; if it is that already, install its D-Bus policy: `sudo nigh doctor --fix dbus-policy`."},
	{ErrNoSupplicant, "Install and start it: `sudo apt install wpasupplicant && sudo systemctl start wpa_supplicant`."},
	{ErrNoInterface, "Give the Wi-Fi interface to wpa_supplicant: `nmcli device set wlan0 managed yes`, or plug in a Wi-Fi adapter."},
	{ErrSupplicantGone, "Start it again: `sudo systemctl start wpa_supplicant`."},
	{ErrP2PEnded, "Plug that adapter in again, or start wpa_supplicant anew: `sudo systemctl restart wpa_supplicant`."},
	{ErrNoP2P, "Use another Wi-Fi adapter (MediaTek mt76 ones work), or use LAN."},
	{ErrRadioOff, "Switch the radio on: `sudo rfkill unblock wifi`."},
	{ErrBusy, "Wait for the other connection to finish, or leave the group first."},
	{ErrPeerGone, "Start the search on the other device and come nearer, then try again."},
	{ErrRejected, "Ask the other side's user to accept, then try again."},
	{ErrTimeout, "See that the other side is near and its user accepts, then try again."},
	{ErrWrongPIN, "Type the PIN that the other device shows now."},
	{ErrOverlap, "Wait two minutes, then press the button on one device only, or use a PIN."},
	{ErrChannel, "Disconnect Wi-Fi for this transfer, or do not ask for a frequency."},
	{ErrMethod, "Choose the same method on both sides: button, or PIN shown here and typed there."},
	{ErrFormation, "Try again; if it goes on, look at `nigh doctor`."},
	{ErrUnsupported, "Update wpa_supplicant to 2.10 or later."},
	{ErrBadMethod, "Give the eight digits that the other device shows."},
}

// Hint returns one thing that the user can do about an error of this package, or "" when there is none to give.
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.text
		}
	}
	return ""
}

// callErr puts the error of a call into this package's terms.
func callErr(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dbusapi.ErrNoReply), errors.Is(err, dbusapi.ErrDisconnected), errors.Is(err, dbusapi.ErrNoSupplicant):
		return fmt.Errorf("%w: %w", ErrSupplicantGone, err)
	case errors.Is(err, dbusapi.ErrChannelUnavailable), errors.Is(err, dbusapi.ErrChannelUnsupported):
		return fmt.Errorf("%w: %w", ErrChannel, err)
	case errors.Is(err, dbusapi.ErrUnknownInterface):
		return fmt.Errorf("%w: %w", ErrNoP2P, err)
	case errors.Is(err, dbusapi.ErrUnknownObject):
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return err
}

// statusErr is what a P2P status code of GO negotiation or invitation means (Wi-Fi P2P specification 4.1.2, table 9).
func statusErr(status int) error {
	switch status {
	case 0, 12:
		return nil
	case -1:
		return ErrTimeout
	case 1:
		return fmt.Errorf("%w: its user has to accept (status 1)", ErrTimeout)
	case 3:
		return fmt.Errorf("%w: its group is full (status 3)", ErrRejected)
	case 7:
		return fmt.Errorf("%w (status 7)", ErrChannel)
	case 8:
		return fmt.Errorf("%w: it forgot the group (status 8)", ErrFormation)
	case 9:
		return fmt.Errorf("%w: both sides insist on being group owner (status 9)", ErrFormation)
	case 10:
		return fmt.Errorf("%w (status 10)", ErrMethod)
	case 11:
		return ErrRejected
	}
	return fmt.Errorf("%w (status %d)", ErrFormation, status)
}
