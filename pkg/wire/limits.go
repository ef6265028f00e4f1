package wire

// Caps on what is accepted from a peer. What is over a cap is a SyntaxError, so that a message of 65,535 octets cannot be made to cost many times its
// size in memory. Nesting needs no number: payload, proposal, transform, attribute is all there is, and an SK payload inside another is refused.
const (
	// MaxMessage is the largest IKE message in octets: what fits a UDP datagram or a TCP frame with its two-octet length (RFC 9329 3).
	MaxMessage = 65535
	// MaxPayloads is the number of payloads in one chain: a message of certificates and notifies has some dozens.
	MaxPayloads = 256
	// MaxProposals is the number of proposals in an SA payload: a peer that offers everything it knows stays below 20.
	MaxProposals = 64
	// MaxTransforms is the number of transforms in one proposal: the width of its Num Transforms field (RFC 7296 3.3.1).
	MaxTransforms = 255
	// MaxSATransforms is the number of transforms in all proposals of an SA payload together.
	MaxSATransforms = 1024
	// MaxAttributes is the number of attributes of one transform: only Key Length is defined (RFC 7296 3.3.5).
	MaxAttributes = 16
	// MaxSelectors is the number of selectors in a TS payload: the width of its Number of TSs field (RFC 7296 3.13).
	MaxSelectors = 255
	// MaxDeleteSPIs is the number of SPIs in a Delete payload: an IKE SA with more Child SAs than this deletes them in several payloads.
	MaxDeleteSPIs = 4096
	// MaxCFGAttributes is the number of attributes in a Configuration payload: long split-tunnel lists have some hundreds of subnets.
	MaxCFGAttributes = 1024
	// MinNonce and MaxNonce are the sizes of a nonce in octets (RFC 7296 3.9).
	MinNonce = 16
	MaxNonce = 256
)

// Sizes of fixed parts in octets.
const (
	genericLen   = 4 // generic payload header (RFC 7296 3.2)
	proposalLen  = 8 // proposal without SPI and transforms (RFC 7296 3.3.1)
	transformLen = 8 // transform without attributes (RFC 7296 3.3.2)
	attributeLen = 4 // attribute: type and length or value (RFC 7296 3.3.5, 3.15.1)
	selectorLen  = 8 // address range selector without addresses (RFC 7296 3.13.1)
)
