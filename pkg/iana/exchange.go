// Package iana holds the numbers of the IKEv2 registries, each with a String as an operator reads it.
package iana

import "strconv"

// Port numbers of IKE (RFC 7296 2, RFC 9329 2).
const (
	PortIKE     = 500
	PortIKENATT = 4500
)

// Exchange is an IKEv2 exchange type (RFC 7296 3.1).
type Exchange uint8

// Exchange types.
const (
	IKE_SA_INIT        Exchange = 34 // RFC 7296 1.2
	IKE_AUTH           Exchange = 35 // RFC 7296 1.2
	CREATE_CHILD_SA    Exchange = 36 // RFC 7296 1.3
	INFORMATIONAL      Exchange = 37 // RFC 7296 1.4
	IKE_SESSION_RESUME Exchange = 38 // RFC 5723
	GSA_AUTH           Exchange = 39 // RFC 9838
	GSA_REGISTRATION   Exchange = 40 // RFC 9838
	GSA_REKEY          Exchange = 41 // RFC 9838
	GSA_INBAND_REKEY   Exchange = 42 // RFC 9838
	IKE_INTERMEDIATE   Exchange = 43 // RFC 9242
	IKE_FOLLOWUP_KE    Exchange = 44 // RFC 9370
)

var exchangeNames = map[Exchange]string{
	IKE_SA_INIT:        "IKE_SA_INIT",
	IKE_AUTH:           "IKE_AUTH",
	CREATE_CHILD_SA:    "CREATE_CHILD_SA",
	INFORMATIONAL:      "INFORMATIONAL",
	IKE_SESSION_RESUME: "IKE_SESSION_RESUME",
	GSA_AUTH:           "GSA_AUTH",
	GSA_REGISTRATION:   "GSA_REGISTRATION",
	GSA_REKEY:          "GSA_REKEY",
	GSA_INBAND_REKEY:   "GSA_INBAND_REKEY",
	IKE_INTERMEDIATE:   "IKE_INTERMEDIATE",
	IKE_FOLLOWUP_KE:    "IKE_FOLLOWUP_KE",
}

// String returns the registry's name, or "exchange(N)".
func (e Exchange) String() string { return name(exchangeNames, e, "exchange") }

// Payload is an IKEv2 payload type (RFC 7296 3.2).
type Payload uint8

// Payload types.
const (
	PayloadNone     Payload = 0  // RFC 7296 3.2, No Next Payload
	PayloadSA       Payload = 33 // RFC 7296 3.3
	PayloadKE       Payload = 34 // RFC 7296 3.4
	PayloadIDi      Payload = 35 // RFC 7296 3.5
	PayloadIDr      Payload = 36 // RFC 7296 3.5
	PayloadCERT     Payload = 37 // RFC 7296 3.6
	PayloadCERTREQ  Payload = 38 // RFC 7296 3.7
	PayloadAUTH     Payload = 39 // RFC 7296 3.8
	PayloadNonce    Payload = 40 // RFC 7296 3.9
	PayloadNotify   Payload = 41 // RFC 7296 3.10
	PayloadDelete   Payload = 42 // RFC 7296 3.11
	PayloadVendorID Payload = 43 // RFC 7296 3.12
	PayloadTSi      Payload = 44 // RFC 7296 3.13
	PayloadTSr      Payload = 45 // RFC 7296 3.13
	PayloadSK       Payload = 46 // RFC 7296 3.14
	PayloadCP       Payload = 47 // RFC 7296 3.15
	PayloadEAP      Payload = 48 // RFC 7296 3.16
	PayloadGSPM     Payload = 49 // RFC 6467
	PayloadIDg      Payload = 50 // RFC 9838
	PayloadGSA      Payload = 51 // RFC 9838
	PayloadKD       Payload = 52 // RFC 9838
	PayloadSKF      Payload = 53 // RFC 7383 2.5
	PayloadPS       Payload = 54 // RFC 8019 8.2
)

var payloadNames = map[Payload]string{
	PayloadNone:     "none",
	PayloadSA:       "SA",
	PayloadKE:       "KE",
	PayloadIDi:      "IDi",
	PayloadIDr:      "IDr",
	PayloadCERT:     "CERT",
	PayloadCERTREQ:  "CERTREQ",
	PayloadAUTH:     "AUTH",
	PayloadNonce:    "Nonce",
	PayloadNotify:   "Notify",
	PayloadDelete:   "Delete",
	PayloadVendorID: "VendorID",
	PayloadTSi:      "TSi",
	PayloadTSr:      "TSr",
	PayloadSK:       "SK",
	PayloadCP:       "CP",
	PayloadEAP:      "EAP",
	PayloadGSPM:     "GSPM",
	PayloadIDg:      "IDg",
	PayloadGSA:      "GSA",
	PayloadKD:       "KD",
	PayloadSKF:      "SKF",
	PayloadPS:       "PS",
}

// String returns the RFC's notation (a word for those of one letter), or "payload(N)".
func (p Payload) String() string { return name(payloadNames, p, "payload") }

// Protocol is a security protocol identifier (RFC 7296 3.3.1).
type Protocol uint8

// Protocol identifiers.
const (
	ProtoNone Protocol = 0 // no SA is meant
	ProtoIKE  Protocol = 1 // RFC 7296 3.3.1
	ProtoAH   Protocol = 2 // RFC 7296 3.3.1
	ProtoESP  Protocol = 3 // RFC 7296 3.3.1
)

var protocolNames = map[Protocol]string{ProtoNone: "none", ProtoIKE: "IKE", ProtoAH: "AH", ProtoESP: "ESP"}

// String returns "IKE", "AH", "ESP", "none" or "protocol(N)".
func (p Protocol) String() string { return name(protocolNames, p, "protocol") }

// name looks a number up; what the registries did not know when this was written prints as kind(N).
func name[T ~uint8 | ~uint16](names map[T]string, v T, kind string) string {
	if s, ok := names[v]; ok {
		return s
	}
	return kind + "(" + strconv.Itoa(int(v)) + ")"
}
