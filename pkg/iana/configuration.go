package iana

// CFGType is a configuration payload type (RFC 7296 3.15).
type CFGType uint8

// Configuration payload types.
const (
	CFG_REQUEST CFGType = 1 // RFC 7296 3.15
	CFG_REPLY   CFGType = 2 // RFC 7296 3.15
	CFG_SET     CFGType = 3 // RFC 7296 3.15
	CFG_ACK     CFGType = 4 // RFC 7296 3.15
)

var cfgTypeNames = map[CFGType]string{
	CFG_REQUEST: "CFG_REQUEST",
	CFG_REPLY:   "CFG_REPLY",
	CFG_SET:     "CFG_SET",
	CFG_ACK:     "CFG_ACK",
}

// String returns the registry's name, or "cfg(N)".
func (t CFGType) String() string { return name(cfgTypeNames, t, "cfg") }

// CFGAttr is a configuration attribute type (RFC 7296 3.15.1).
type CFGAttr uint16

// Configuration attribute types.
const (
	INTERNAL_IP4_ADDRESS              CFGAttr = 1  // RFC 7296 3.15.1
	INTERNAL_IP4_NETMASK              CFGAttr = 2  // RFC 7296 3.15.1
	INTERNAL_IP4_DNS                  CFGAttr = 3  // RFC 7296 3.15.1
	INTERNAL_IP4_NBNS                 CFGAttr = 4  // RFC 7296 3.15.1
	INTERNAL_IP4_DHCP                 CFGAttr = 6  // RFC 7296 3.15.1
	APPLICATION_VERSION               CFGAttr = 7  // RFC 7296 3.15.1
	INTERNAL_IP6_ADDRESS              CFGAttr = 8  // RFC 7296 3.15.1
	INTERNAL_IP6_DNS                  CFGAttr = 10 // RFC 7296 3.15.1
	INTERNAL_IP6_DHCP                 CFGAttr = 12 // RFC 7296 3.15.1
	INTERNAL_IP4_SUBNET               CFGAttr = 13 // RFC 7296 3.15.1
	SUPPORTED_ATTRIBUTES              CFGAttr = 14 // RFC 7296 3.15.1
	INTERNAL_IP6_SUBNET               CFGAttr = 15 // RFC 7296 3.15.1
	MIP6_HOME_PREFIX                  CFGAttr = 16 // RFC 5026
	INTERNAL_IP6_LINK                 CFGAttr = 17 // RFC 5739
	INTERNAL_IP6_PREFIX               CFGAttr = 18 // RFC 5739
	HOME_AGENT_ADDRESS                CFGAttr = 19 // 3GPP TS 24.302
	P_CSCF_IP4_ADDRESS                CFGAttr = 20 // RFC 7651
	P_CSCF_IP6_ADDRESS                CFGAttr = 21 // RFC 7651
	FTT_KAT                           CFGAttr = 22 // 3GPP TS 24.302
	EXTERNAL_SOURCE_IP4_NAT_INFO      CFGAttr = 23 // 3GPP TS 29.139
	TIMEOUT_PERIOD_FOR_LIVENESS_CHECK CFGAttr = 24 // 3GPP TS 24.302
	INTERNAL_DNS_DOMAIN               CFGAttr = 25 // RFC 8598
	INTERNAL_DNSSEC_TA                CFGAttr = 26 // RFC 8598
	ENCDNS_IP4                        CFGAttr = 27 // RFC 9464
	ENCDNS_IP6                        CFGAttr = 28 // RFC 9464
	ENCDNS_DIGEST_INFO                CFGAttr = 29 // RFC 9464
)

var cfgAttrNames = map[CFGAttr]string{
	INTERNAL_IP4_ADDRESS:              "INTERNAL_IP4_ADDRESS",
	INTERNAL_IP4_NETMASK:              "INTERNAL_IP4_NETMASK",
	INTERNAL_IP4_DNS:                  "INTERNAL_IP4_DNS",
	INTERNAL_IP4_NBNS:                 "INTERNAL_IP4_NBNS",
	INTERNAL_IP4_DHCP:                 "INTERNAL_IP4_DHCP",
	APPLICATION_VERSION:               "APPLICATION_VERSION",
	INTERNAL_IP6_ADDRESS:              "INTERNAL_IP6_ADDRESS",
	INTERNAL_IP6_DNS:                  "INTERNAL_IP6_DNS",
	INTERNAL_IP6_DHCP:                 "INTERNAL_IP6_DHCP",
	INTERNAL_IP4_SUBNET:               "INTERNAL_IP4_SUBNET",
	SUPPORTED_ATTRIBUTES:              "SUPPORTED_ATTRIBUTES",
	INTERNAL_IP6_SUBNET:               "INTERNAL_IP6_SUBNET",
	MIP6_HOME_PREFIX:                  "MIP6_HOME_PREFIX",
	INTERNAL_IP6_LINK:                 "INTERNAL_IP6_LINK",
	INTERNAL_IP6_PREFIX:               "INTERNAL_IP6_PREFIX",
	HOME_AGENT_ADDRESS:                "HOME_AGENT_ADDRESS",
	P_CSCF_IP4_ADDRESS:                "P_CSCF_IP4_ADDRESS",
	P_CSCF_IP6_ADDRESS:                "P_CSCF_IP6_ADDRESS",
	FTT_KAT:                           "FTT_KAT",
	EXTERNAL_SOURCE_IP4_NAT_INFO:      "EXTERNAL_SOURCE_IP4_NAT_INFO",
	TIMEOUT_PERIOD_FOR_LIVENESS_CHECK: "TIMEOUT_PERIOD_FOR_LIVENESS_CHECK",
	INTERNAL_DNS_DOMAIN:               "INTERNAL_DNS_DOMAIN",
	INTERNAL_DNSSEC_TA:                "INTERNAL_DNSSEC_TA",
	ENCDNS_IP4:                        "ENCDNS_IP4",
	ENCDNS_IP6:                        "ENCDNS_IP6",
	ENCDNS_DIGEST_INFO:                "ENCDNS_DIGEST_INFO",
}

// String returns the registry's name, or "attribute(N)".
func (a CFGAttr) String() string { return name(cfgAttrNames, a, "attribute") }
