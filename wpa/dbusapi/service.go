package dbusapi

import (
	"context"

	"github.com/godbus/dbus/v5"
)

// MaxServices bounds the bytes of one service discovery response: what a peer may have the supplicant gather from many frames.
const MaxServices = 16 * 1024

// ServiceResponse carries what a peer answered to a service discovery request: TLVs as they came, which may hold anything.
type ServiceResponse struct {
	Peer      Path
	Indicator uint16 // changes when the peer's services do
	TLVs      []byte
}

func (ServiceResponse) signal() {}

// AddService advertises a Bonjour service: response is what the supplicant answers to query.
func (c *Client) AddService(ctx context.Context, owner Path, query, response []byte) error {
	arg := map[string]dbus.Variant{
		"service_type": dbus.MakeVariant("bonjour"), "query": dbus.MakeVariant(query), "response": dbus.MakeVariant(response),
	}
	return c.call(ctx, owner, ifaceP2P, "AddService", []any{arg})
}

// DeleteService takes a Bonjour service back; ErrInvalidArgs when it is not advertised.
func (c *Client) DeleteService(ctx context.Context, owner Path, query []byte) error {
	arg := map[string]dbus.Variant{"service_type": dbus.MakeVariant("bonjour"), "query": dbus.MakeVariant(query)}
	return c.call(ctx, owner, ifaceP2P, "DeleteService", []any{arg})
}

// ServiceUpdate tells peers that our services changed.
func (c *Client) ServiceUpdate(ctx context.Context, owner Path) error {
	return c.call(ctx, owner, ifaceP2P, "ServiceUpdate", nil)
}

// RequestServices has a query sent to a peer once, or, when peer is None, to every peer that is found until it is cancelled. It is
// sent in the course of Find. The number that it returns is for CancelServices.
func (c *Client) RequestServices(ctx context.Context, owner, peer Path, tlv []byte) (uint64, error) {
	arg := map[string]dbus.Variant{"tlv": dbus.MakeVariant(tlv)}
	if !None(peer) {
		arg["peer_object"] = dbus.MakeVariant(peer)
	}
	var request uint64
	err := c.call(ctx, owner, ifaceP2P, "ServiceDiscoveryRequest", []any{arg}, &request)
	return request, err
}

// CancelServices takes a request back; ErrInvalidArgs when there is no such request any more.
func (c *Client) CancelServices(ctx context.Context, owner Path, request uint64) error {
	return c.call(ctx, owner, ifaceP2P, "ServiceDiscoveryCancelRequest", []any{request})
}

func decodeServices(d dict) Signal {
	tlvs, _ := d["tlvs"].Value().([]byte)
	if len(tlvs) > MaxServices {
		return nil
	}
	return orNil(d.path("peer_object"), ServiceResponse{d.path("peer_object"), uint16(d.number("update_indicator")), tlvs})
}
