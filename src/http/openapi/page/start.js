// `validatorUrl`: otherwise the document would be sent to a service on the internet to be checked.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null });
