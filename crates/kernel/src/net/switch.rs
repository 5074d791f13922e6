//! Linux's function-pointer tables as matches: which protocol gets the packet, which socket code gets the call.
